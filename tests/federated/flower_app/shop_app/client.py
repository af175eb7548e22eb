"""A device: bundle, store and ledger come from the SuperNode's own config, never from the server."""

from pathlib import Path

from flwr.app import Context

from pocketrank.bundle import Bundle
from pocketrank.learner import Learner, examples
from pocketrank.store import DeviceStore
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.participant import Participant, local_training


def participant(context: Context) -> Participant:
    """The device that this SuperNode stands for."""
    config = context.node_config
    bundle = Bundle.open(str(config["bundle"]))
    learner, store = Learner(bundle), DeviceStore(str(config["store"]))
    trainer = local_training(learner, examples(store, learner.width))
    return Participant(bundle, trainer, FileLedger(Path(str(config["ledger"]))))


app = client_app(participant)
