"""Download of AudioSet's clips from YouTube: segment lists, ontology, downloads, and the ledger of segments."""
