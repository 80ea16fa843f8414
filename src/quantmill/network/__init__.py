"""Files of the Hub and of plain addresses: what is there, fetched and sent, resumed after breaks."""
