// Drives Phoenix's own clients: commands as JSON lines on stdin, what happens as JSON lines on stdout.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const require = createRequire(import.meta.url);
const clients = { 1: require("phoenix-1").Socket, 2: require("phoenix").Socket };
const sockets = new Map();
const channels = new Map();
const crowd = [];

const say = (what, more) => process.stdout.write(`${JSON.stringify({ what, ...more })}\n`);

function open({ version, url, heartbeat_ms }) {
  const again = () => 50;
  return new clients[version](`${url.replace(/^http/, "ws")}/socket`, {
    transport: WebSocket,
    reconnectAfterMs: again,
    rejoinAfterMs: again,
    ...(heartbeat_ms ? { heartbeatIntervalMs: heartbeat_ms } : {}),
  });
}

const commands = {
  connect(command) {
    const { socket: id } = command;
    const socket = open(command);
    socket.onOpen(() => say("open", { socket: id }));
    socket.onClose(() => say("down", { socket: id }));
    socket.onMessage((message) => {
      if (message.topic === "phoenix") say("heartbeat", { socket: id, status: message.payload.status });
    });
    socket.connect();
    sockets.set(id, socket);
  },
  join({ socket: id, topic, params, resume }) {
    let cursor = params?.cursor;
    const words = () => (resume ? { ...params, cursor } : params);
    // The older client takes no function.
    const channel = sockets.get(id).channel(topic, resume ? words : params);
    for (const event of ["event:published", "gap", "live"]) {
      channel.on(event, (payload) => {
        cursor = payload.cursor ?? cursor;
        say("event", { socket: id, topic, event, payload });
      });
    }
    channel.onClose((payload) => say("close", { socket: id, topic, payload }));
    channel.onError((payload) => say("error", { socket: id, topic, payload }));
    channel
      .join()
      .receive("ok", (response) => {
        cursor = cursor ?? response.cursor;
        say("joined", { socket: id, topic, response });
      })
      .receive("error", (response) => say("refused", { socket: id, topic, response }));
    channels.set(`${id} ${topic}`, channel);
  },
  push({ socket: id, topic, event, payload }) {
    channels
      .get(`${id} ${topic}`)
      .push(event, payload)
      .receive("ok", (response) => say("reply", { socket: id, topic, status: "ok", response }))
      .receive("error", (response) => say("reply", { socket: id, topic, status: "error", response }));
  },
  leave({ socket: id, topic }) {
    channels
      .get(`${id} ${topic}`)
      .leave()
      .receive("ok", () => say("left", { socket: id, topic }));
  },
  disconnect({ socket: id }) {
    sockets.get(id).disconnect();
  },
  crowd(command) {
    let joined = 0;
    for (let i = 0; i < command.count; i++) {
      const socket = open(command);
      const one = { socket, events: 0, channel: socket.channel(command.topic, command.params) };
      one.channel.on("event:published", () => {
        one.events++;
        if (crowd.every(({ events, left }) => left || events >= one.events)) say("round", { events: one.events });
      });
      socket.connect();
      one.channel.join().receive("ok", () => {
        if (++joined === command.count) say("crowd", { joined });
      });
      crowd.push(one);
    }
  },
  crowd_leave({ index }) {
    crowd[index].left = true;
    crowd[index].channel.leave().receive("ok", () => say("crowd_left", { index }));
  },
  crowd_counts() {
    say("counts", { counts: crowd.map(({ events }) => events) });
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => process.exit(0));
