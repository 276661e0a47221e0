// An address that ends in #TOKEN logs in by itself. What follows # is not sent to a server, so that it stands in no log.
const token = decodeURIComponent(location.hash.slice(1));
if (token) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.querySelector("form").requestSubmit();
}
