"""The parameters that several routes of a chat have, as declarations.

Invariants: the limits are those of the functions that read the parameters.
"""

from __future__ import annotations

from typing import Final

from statestream.chat.blobs import FILE_ID
from statestream.chat.chats import MAX_KEY
from statestream.chat.files import MAX_FILENAME
from statestream.chat.question import MAX_ID
from statestream.core.principal import MAX_SUBJECT
from statestream.server.contract import Parameter

MAX_PAGE: Final = 100
"""The messages of one answer."""
ONE_LINE: Final = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+$"
"""What `is_name` accepts, for programs."""

CHAT: Final = Parameter(
    name="id",
    description=f"The id of the chat, whose key has at most {MAX_KEY} characters.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    place="path",
)
SUBJECT: Final = Parameter(
    name="subject",
    description="The subject of the participant's identity.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_SUBJECT, "pattern": ONE_LINE},
    place="path",
)
FILE: Final = Parameter(
    name="file",
    description="The id of a file, as its URL has it.",
    schema={"type": "string", "pattern": f"^{FILE_ID}$"},
    place="path",
)
FILENAME: Final = Parameter(
    name="filename",
    description="The name of the file. It takes precedence over the one in a form.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_FILENAME, "pattern": ONE_LINE},
)
LEAF: Final = Parameter(
    name="leaf",
    description="A message of the branch to look at. Without it: the branch that the chat shows.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_ID},
)
BEFORE: Final = Parameter(
    name="before",
    description="The id of a message. The newest messages are in the chat itself.",
    schema={"type": "string"},
    required=True,
)
PAGE: Final = Parameter(
    name="limit",
    description="At most so many messages.",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE},
)
