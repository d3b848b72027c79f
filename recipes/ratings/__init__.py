"""Ratings: rows of a user, an item and whether the user liked it, and measures of ranking."""
