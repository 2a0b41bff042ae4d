"""A chat in an application of one's own: statestream serve examples/chat.py:app

Without OPENAI_API_KEY a model answers that needs no network.
"""

from statestream import Store, create_app
from statestream.chat import Chat

chat = Chat()
app = create_app(Store([*chat.slices]))
chat.setup(app)
