"""Pictures and reports, made of documents."""
