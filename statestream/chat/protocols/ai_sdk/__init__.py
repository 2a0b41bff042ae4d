"""The AI SDK's default protocol: `useChat` posts to `/api/chat` and reads a UI message stream, version 1.

    POST /api/chat                ask, edit, regenerate: `id` is the chat, which need not exist
    GET  /api/chat/{id}/stream    resumes the reply in progress; 204 if there is none
    POST /api/chat/{id}/stop      ends it: a client that aborts has only gone away
    GET  /api/chat/{id}           the messages, as `useChat` takes them when a page is loaded

Source: ai-sdk.dev, "Stream Protocols". Only what both majors, 6 and 7, accept is sent.

Invariants: an error is a sentence as plain text, because the SDK shows the body of an error response as it is.
"""
