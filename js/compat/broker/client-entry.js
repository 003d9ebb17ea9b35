export { default } from "broker-client";
