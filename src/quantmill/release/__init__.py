"""What is done with a finished release: checked, built once more and compared, offered, published."""
