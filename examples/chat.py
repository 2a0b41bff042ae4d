"""A chat in an application of one's own: statestream serve examples/chat.py:app

It has no page. Ask in a terminal, or serve the how-to "A chat in a page":

    curl -N http://127.0.0.1:8000/api/chat -H 'Content-Type: application/json' \\
         -d '{"id": "first", "message": {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}}'

Without OPENAI_API_KEY a model answers that needs no network.
"""

from statestream import Store, create_app
from statestream.chat import Chat

chat = Chat()
app = create_app(Store([*chat.slices]))
chat.setup(app)
