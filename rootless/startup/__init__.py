"""Only why a command starts fast; README.md says what each part gains."""
