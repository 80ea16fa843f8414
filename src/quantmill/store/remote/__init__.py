"""The store that machines share: objects and signed records in a bucket or a network folder, by obstore.

Nothing here is imported before something must be asked, fetched or sent, but `settings`.
"""
