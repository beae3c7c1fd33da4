"""TODO tercet.sharing.hub."""
