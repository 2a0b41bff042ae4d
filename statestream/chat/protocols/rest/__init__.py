"""The chat's own protocol: create, read and delete chats, stop replies, choose branches, report typing, invite people,
approve tool calls, upload and read files.

    routes        what everybody needs
    queue         questions that wait in the queue of a chat
    people        who belongs to a chat, and its end
    approvals     tool calls that people have to approve, or that windows run
    files         files of a chat
    upload        the request with a file
    multipart     a form with a file
    file_headers  ranges, names and policies of files

Invariants: responses contain the state's own messages. Errors are problems, as on all routes of the server.
"""
