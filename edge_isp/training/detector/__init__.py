"""Training of networks that find objects in RAW."""
