"""What an evaluation says, written for programs (JSON), for a terminal (Markdown) and for eyes (HTML)."""
