"""The state stream on the wire: server-sent events and the frames that they carry."""
