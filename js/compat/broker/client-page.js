// broker-client in a page.
import BrokerClient from "broker-client";

const { url, token } = window.arranged;
const client = new BrokerClient(`${url}/events`, { headers: { authorization: `Bearer ${token}` } });
client.addEventListener("traps", (event) => {
  document.getElementById("root").innerHTML = '<pre id="state"></pre>';
  document.getElementById("state").textContent = event.data;
});
