"""A chat beside slices with rules, for front ends that show both."""

from __future__ import annotations

from statestream import Store, create_app
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel
from tests.apps.by_name import auth
from tests.apps.guarded import people, room

chat = Chat(model=DemoModel(), titles=False)
app = create_app(Store([room, people, *chat.slices]), auth=auth)
chat.setup(app)
