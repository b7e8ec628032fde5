"""The embedded world: drawn phantoms, a hospital made of them, and the oracle that alone knows the truth."""
