"""What runs in a browser: the replica in JavaScript, and the demo's page. No build step."""
