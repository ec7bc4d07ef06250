// Rooms and offers over socket.io, as a signalling server of a tutorial does it: join, tell the
// room, pass a message on to who is named in it.
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const [host, port] = [process.argv[2], Number(process.argv[3])];
const http = createServer((_request, response) => response.end("ok"));
const io = new Server(http, { serveClient: false });
/** @type {Map<string, import("socket.io").Socket>} */
const peers = new Map();

io.on("connection", (socket) => {
  let me = "";
  socket.on("join", (room, nodeId) => {
    me = nodeId;
    peers.set(me, socket);
    socket.join(room);
    socket.to(room).emit("peer-joined", { room, peer: { nodeId } });
    socket.emit("joined");
  });
  socket.on("signal", ({ type, to, room, sdp }) => {
    peers.get(to)?.emit(type, { from: me, room, sdp });
  });
  socket.on("disconnecting", () => {
    peers.delete(me);
    for (const room of socket.rooms) socket.to(room).emit("peer-left", { room, peerId: me });
  });
});
http.listen(port, host);
