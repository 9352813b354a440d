"""The likelihood of reference answers: a reference scorer and a fast one."""
