"""A device: its bundle, its ledger and its number come from the SuperNode's own config, never from the server."""

from pathlib import Path

from flwr.app import Context

from pocketrank.bundle import Bundle
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.participant import Participant
from tests.federated.toy import targets, trainer_to


def participant(context: Context) -> Participant:
    """The device that this SuperNode stands for."""
    config = context.node_config
    goal = targets(int(config["num-partitions"]))[int(config["partition-id"])]
    return Participant(Bundle.open(str(config["bundle"])), trainer_to(goal), FileLedger(Path(str(config["ledger"]))))


app = client_app(participant)
