//! The runtime side: configuration lists, the chain of plugins, the cache of results.
