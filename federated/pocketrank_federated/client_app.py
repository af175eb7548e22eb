"""The device's side as a Flower ClientApp: one fixed task, and only its update in the reply."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from pocketrank.errors import InputError
from pocketrank_federated.messages import ACTION, FAILED_CODE, REFUSED_CODE
from pocketrank_federated.participant import Participant
from pocketrank_federated.policy import Refusal, RefusalError
from pocketrank_federated.records import read_request, reply_content

_log = logging.getLogger(__name__)


def client_app(participant_for: Callable[[Context], Participant]) -> ClientApp:
    """A ClientApp that answers ``train.pocketrank_update`` and nothing else.

    A refusal goes back as an error that holds its reason from a fixed list; any
    other failure as an error that holds nothing, because the text of an
    exception may hold data. The details stay in this device's log.

    Args:
        participant_for: The device that a context stands for. It is called for each message.
    """
    app = ClientApp()

    @app.train(ACTION)
    def pocketrank_update(message: Message, context: Context) -> Message:
        try:
            config, params = read_request(message.content)
            update = participant_for(context).respond(config, params)
        except InputError as error:
            _log.warning("round refused: %s", error)
            return Message(Error(REFUSED_CODE, Refusal.MALFORMED.value), reply_to=message)
        except RefusalError as error:
            _log.info("round refused: %s", error)
            return Message(Error(REFUSED_CODE, error.reason.value), reply_to=message)
        except Exception:  # noqa: BLE001  (whatever it is, its text stays here)
            _log.exception("no answer to a round")
            return Message(Error(FAILED_CODE, "failed"), reply_to=message)
        return Message(reply_content(update), reply_to=message)

    return app
