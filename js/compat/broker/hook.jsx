// A page as a user of broker-hook writes it.
import React from "react";
import ReactDOM from "react-dom";
import { SSEProvider, useSSE } from "broker-hook";

const State = () => {
  const state = useSSE("traps");
  return <pre id="state">{state ? JSON.stringify(state.data) : "nothing yet"}</pre>;
};

const { url, token } = window.arranged;
const options = { headers: { authorization: `Bearer ${token}` } };
ReactDOM.render(
  <SSEProvider endpoint={`${url}/events`} options={options}>
    <State />
  </SSEProvider>,
  document.getElementById("root"),
);
