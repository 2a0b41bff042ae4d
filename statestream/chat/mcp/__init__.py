"""Tools of MCP servers, for the chat's own model.

`server` has a server, the connection to it, and its tools; `transport` how it is reached, as a process or at a URL;
`results` what it answers, as the outcome of a call.
"""
