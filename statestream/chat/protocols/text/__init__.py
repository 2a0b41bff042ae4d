"""Plain text: ask with `POST /api/chats/{id}/stream`, and read the reply as the body of the response.

The AI SDK calls this the text stream protocol (`TextStreamChatTransport`). Front ends without a library use it, too.

Invariants: the body is the reply's text and nothing else, without reasoning and tools. The protocol cannot signal
errors, so a reply that does not end well aborts the connection. It has no ids either, so nothing can be resumed: a
second response would be a second message.
"""
