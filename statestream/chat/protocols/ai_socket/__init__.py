"""The AI SDK over a WebSocket: `GET /api/chat`, for the `WebSocketChatTransport` of its major 7.

    the client    {"type": "send", "requestId", "id", "trigger", "messageId"?, "messages", …}
                  {"type": "resume", "requestId", "id", …}, {"type": "abort", "requestId"}
    the server    {"type": "start", "requestId"}, {"type": "chunk", "requestId", "sequence", "chunk"}
                  {"type": "end", "requestId"}, {"type": "no-active", "requestId"}
                  {"type": "error", "requestId", "errorText"}

The chunks are those of the UI message stream. In this protocol a client reports that a person stops a reply: `abort`
ends it for everybody, while a lost connection ends nothing.

Source: `websocket-chat-transport.ts` of the SDK.

Invariants: the SDK resumes from the beginning, so a resumed stream is made from the state like any other, and its
sequence begins with 0.
"""
