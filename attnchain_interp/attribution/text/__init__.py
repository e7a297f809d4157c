"""Attribution of texts: a prompt's tokens, for what a model says of it or goes on with."""
