const form = document.querySelector("form");
const say = (text) => { document.getElementById("wrong").textContent = text; };
form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    // What is asked of the page is asked of the server, credentials excepted.
    const body = Object.fromEntries(new URLSearchParams(location.search));
    if (body.refresh_token !== undefined) body.refresh_token = body.refresh_token === "true";
    body.type = "m.login.password";
    body.identifier = { type: "m.id.user", user: form.user.value };
    body.password = form.password.value;
    try {
        const answer = await fetch("/_matrix/client/v3/login", {
            method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        });
        const response = await answer.json();
        if (!answer.ok) {
            say(response.error || "The server refused: " + answer.status);
        } else if (window.matrixLogin && window.matrixLogin.onLogin) {
            window.matrixLogin.onLogin(response);
        } else {
            say("You are logged in, but no client has opened this page: open it from yours.");
        }
    } catch (error) {
        say("The server could not be reached: " + error.message);
    }
});
