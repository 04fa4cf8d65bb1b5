"""What the two listeners answer: thin handlers that call the exchange, the catalog or the store."""
