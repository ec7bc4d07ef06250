//! A command-line peer: data channels to browsers, Node and its like, found through a coordinator.
