"""Three phases over a WebSocket, `GET /ws`: complete messages, and replies that start, grow by chunks, and end.

    {"type": "message", "id", "content", "sender": "user" | "ai", "timestamp", "session_id", "metadata"}
    {"type": "message_stream", "id", "chunk"?, "sender": "ai", "timestamp", "agentId", "agentName", "agentType",
     "session_id", "stream_start", "stream_chunk", "stream_end", "metadata"}

A message that has ended when the client first sees it comes complete; a reply in progress comes in phases. The protocol
has text only: reasoning and tools are left out, and a last chunk says why a reply failed. A request that cannot be
fulfilled is answered in three phases as well, so that a client that knows nothing else can show the reason.

`metadata.position` is `<message>:<characters>` or `<message>:end`. It covers so much of that message, and everything
above it.

Invariants: a position is made from the state and nothing else, so that a client can resume from it at any node. A
position that the state does not know starts from the beginning. No member is null.
"""
