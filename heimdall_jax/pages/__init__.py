"""HTML pages that need nothing beside them: style, pictures and tables are inside, and nothing is fetched."""
