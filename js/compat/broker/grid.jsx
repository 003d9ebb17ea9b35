// A page as a user of broker-grid writes it; its endpoint names a tenant, as later servers want it.
import React from "react";
import ReactDOM from "react-dom";
import Grid from "broker-grid";

const { url, token } = window.arranged;
ReactDOM.render(
  <Grid
    sseEndpoint={`${url}/events/112718d1-a0be-4468-b902-0749c3d964ae`}
    insertEndpoint={`${url}/insert`}
    eventListen="people"
    token={token}
    title="People"
  />,
  document.getElementById("root"),
);
