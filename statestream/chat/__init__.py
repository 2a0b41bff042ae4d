"""Chats: conversations with a model as slices, replies that the server makes, and protocols as projections of them.

The public names. Models are in `statestream.chat.models`.

Invariants: nothing below the chat imports it. A reply is written by `replies` only, and read by anyone.
"""

from statestream.chat.approvals import Approval, Decision, ToolAnswer
from statestream.chat.blobs.folder import FolderBlobs
from statestream.chat.chat import Chat
from statestream.chat.conversations import Conversations
from statestream.chat.files import Files
from statestream.chat.models.settings import ModelSettings
from statestream.chat.prices import Budget, Price
from statestream.chat.question import Question
from statestream.chat.settings import Concurrency, Timeouts

__all__ = [
    "Approval",
    "Budget",
    "Chat",
    "Concurrency",
    "Conversations",
    "Decision",
    "Files",
    "FolderBlobs",
    "ModelSettings",
    "Price",
    "Question",
    "Timeouts",
    "ToolAnswer",
]
