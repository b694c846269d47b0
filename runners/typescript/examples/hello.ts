interface Greeting {
  to: string;
}

const greet = ({ to }: Greeting): string => `Hello from ${to}`;
console.log(greet({ to: "TypeScript" }));
