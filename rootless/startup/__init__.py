"""Make commands start fast. README.md says how much time each part saves."""
