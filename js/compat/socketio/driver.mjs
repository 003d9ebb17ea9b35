// Does what a test says with socket.io-client, and reports whatever its sockets meet. Runs in Node and in pages.
import { io } from "socket.io-client";

/** What takes commands; `report` is given one object for each thing that happens. */
export function driver(report) {
  const sockets = new Map();
  const commands = {
    connect({ name, url, transports, auth }) {
      const socket = io(url, {
        transports,
        auth,
        forceNew: true,
        reconnectionDelay: 50,
        reconnectionDelayMax: 200,
        // A certificate of a test's own making is all right.
        rejectUnauthorized: false,
      });
      sockets.set(name, socket);
      const tell = (event, ...args) => report({ name, event, args });
      socket.onAny(tell);
      socket.on("connect", () => {
        tell("connect", socket.id);
        const engine = socket.io.engine;
        tell("transport", engine.transport.name);
        engine.on("upgrade", (transport) => tell("transport", transport.name));
      });
      socket.on("connect_error", (error) => tell("connect_error", error.message));
      socket.on("disconnect", (reason) => tell("disconnect", reason));
    },
    emit({ name, event, args, ref }) {
      const socket = sockets.get(name);
      if (ref === undefined) socket.emit(event, ...args);
      else socket.emit(event, ...args, (...answer) => report({ name, ack: ref, args: answer }));
    },
    /** What the library says of itself when it connects again. */
    renew({ name, auth }) {
      sockets.get(name).auth = auth;
    },
    disconnect({ name }) {
      sockets.get(name).disconnect();
    },
    /** Loses the transport without a word, as a bad network does; the library connects again by itself. */
    cut({ name, auth }) {
      const socket = sockets.get(name);
      if (auth !== undefined) socket.auth = auth;
      socket.io.engine.close();
    },
  };
  return (command) => commands[command.op](command);
}
