"""Complete, named training configurations."""
