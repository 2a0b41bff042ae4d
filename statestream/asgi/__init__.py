"""An application of `create_app` as an ASGI 3 application, for the process of another framework or server.

    scope           what an ASGI server says about a request, as the head of an HTTP/1.1 request
    frames          WebSocket messages as the frames that aiohttp reads and writes
    transport       the connection in memory between the two sides
    request         aiohttp's request and response writer on such a connection
    exchange        carries one request or WebSocket between the two sides
    signals         notices that the process is asked to stop
    application     the ASGI application, and its lifespan

Nothing here knows a route: aiohttp's own protocol serves every request, as it does on a socket. Decision record 11 says
why.
"""

from statestream.asgi.application import AsgiApp, asgi_app

__all__ = ["AsgiApp", "asgi_app"]
