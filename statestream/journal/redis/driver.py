"""What a Redis journal uses of redis-py, which the extra `redis` installs.

Invariants: this is the only import of redis-py. If it is missing, importing the engine says what to install.
"""

from __future__ import annotations

try:
    from redis import exceptions
    from redis.asyncio import Connection, SSLConnection
except ModuleNotFoundError as error:
    if error.name != "redis":
        raise
    raise ImportError(
        "redis-py is not installed; it comes with the extra redis: pip install '.[redis]' in the checkout", name="redis"
    ) from None

__all__ = ["Connection", "SSLConnection", "exceptions"]
