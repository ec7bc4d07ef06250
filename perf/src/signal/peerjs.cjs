// The PeerJS server as its authors ship it, without the bound of 5,000 clients.
"use strict";
const { PeerServer } = require("peer");

const [host, port] = [process.argv[2], Number(process.argv[3])];
PeerServer({ host, port, path: "/", concurrent_limit: 100_000 });
