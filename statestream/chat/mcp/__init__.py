"""Tools of MCP servers, for the chat's own model.

`server` has a server, the connection to it, and its tools. `transport` says how to reach it, as a process or at a URL.
`results` turns its answers into outcomes of calls.
"""
