"""Mails: written in the transaction of what they tell, sent by a background task, printed where there is no server."""
