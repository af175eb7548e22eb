"""The server: PocketRank's own, as it is."""

from pocketrank_federated.server_app import server_app

app = server_app()
