"""Whether quantmill writes what llama.cpp of a tag writes: questions, the library that answers them, what was found."""
