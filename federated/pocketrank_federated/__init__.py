"""Federated rounds: the device's side, the server's side, and what both must agree on.

On a device, ``participant`` and what it imports need numpy and ``pocketrank``
alone. ``client_app``, ``server_app``, ``strategy``, ``rounds`` and
``local_grid`` need Flower. Nothing is imported here, so neither side pays for
the other.
"""
