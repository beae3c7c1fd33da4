"""Results as terminal tables, Markdown and files."""
