"""The commands, a module for those that belong together; each registers with `app.app` when it is imported."""
