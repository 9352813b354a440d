"""What makes the documentation: generated reference pages, checked pages, hooks of the site."""
